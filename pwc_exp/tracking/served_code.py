"""The code inside an exported MLflow model; it is copied there, and needs only TensorFlow."""

import warnings

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext

# They would be taken for a schema; the model's is written by hand.
warnings.filterwarnings("ignore", ".*Add type hints to the `predict` method")


class OpticalFlow(PythonModel):
    """Two frames -> the flow from the first to the second."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the SavedModel."""
        import tensorflow as tf

        self.network = tf.saved_model.load(context.artifacts["savedmodel"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """frame1, frame2: uint8 [B, H, W, 3], RGB -> [B, H, W, 2], (x right, y down), pixels."""
        import tensorflow as tf

        frames = {name: tf.constant(model_input[name], tf.uint8) for name in ("frame1", "frame2")}
        return self.network.signatures["serving_default"](**frames)["flow"].numpy()


mlflow.models.set_model(OpticalFlow())
