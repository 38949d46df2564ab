"""The code inside an exported model of MLflow; it is copied there, and needs TensorFlow only."""

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext


class OpticalFlow(PythonModel):
    """Two frames -> the flow from the first to the second."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the SavedModel."""
        import tensorflow as tf

        self.network = tf.saved_model.load(context.artifacts["savedmodel"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: dict[str, np.ndarray],
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """frame1, frame2: uint8 [B, H, W, 3], RGB -> [B, H, W, 2], (x right, y down), pixels."""
        import tensorflow as tf

        frames = {name: tf.constant(model_input[name], tf.uint8) for name in ("frame1", "frame2")}
        return self.network.signatures["serving_default"](**frames)["flow"].numpy()


mlflow.models.set_model(OpticalFlow())
