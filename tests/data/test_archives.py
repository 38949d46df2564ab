import re
from urllib.parse import urlsplit

import pytest

from pwc_exp.data.fetching.archives import CATALOGUE, Entry

PUBLIC = {
    "sintel",
    "flyingchairs",
    "flyingchairs2",
    "flyingthings3d",
    "flyingthings3d_subset",
    "kitti2012",
    "kitti2015",
    "hd1k",
    "middlebury",
    "spring",
}
BY_FORM = {"tartanair", "viper"}


def test_the_catalogue_holds_the_data_sets_of_the_field() -> None:
    assert set(CATALOGUE) == PUBLIC | BY_FORM
    assert {name for name, entry in CATALOGUE.items() if not entry.archives} == BY_FORM


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_says_licence_page_and_source(entry: Entry) -> None:
    assert CATALOGUE[entry.name] is entry
    assert entry.licence
    assert entry.source
    page = urlsplit(entry.page)
    assert page.scheme in ("http", "https")
    assert "." in page.netloc


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_addresses_are_well_formed_and_names_are_plain(entry: Entry) -> None:
    for archive in entry.archives:
        url = urlsplit(archive.url)
        # Of all servers, only this one has no https address that a public source states.
        assert url.scheme == "https" or url.netloc == "hci-benchmark.iwr.uni-heidelberg.de"
        assert "//" not in url.path
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\.zip|\.tar|\.tar\.bz2|\.txt)", archive.name)
        assert archive.url.endswith(archive.name) or entry.name == "spring"
        assert re.fullmatch(r"[A-Za-z0-9_]*", archive.strip)
        assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256)
    names = [archive.name for archive in entry.archives]
    assert len(set(names)) == len(names)


def test_no_address_belongs_to_two_data_sets() -> None:
    urls = [archive.url for entry in CATALOGUE.values() for archive in entry.archives]
    assert len(urls) == len(set(urls)) >= len(PUBLIC)
