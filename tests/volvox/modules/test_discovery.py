import pytest

from volvox.errors import InvalidInput, UnknownModule
from volvox.modules.discovery import find, installed


def test_an_unknown_module_is_told_with_those_there_are(install_module) -> None:
    install_module("toy", "")
    with pytest.raises(UnknownModule, match=r"no model module 'nothing' is installed; installed: .*toy"):
        find("nothing")


def test_a_module_is_found_without_being_imported(install_module) -> None:
    install_module("toy", "raise RuntimeError('imported')", metadata="title: Toy\n")
    assert "toy" in installed()
    module = find("toy")
    assert (module.version, module.metadata()) == ("1.0", {"title": "Toy"})


def test_metadata_that_is_not_yaml_is_refused_in_a_sentence(install_module) -> None:
    install_module("toy", "", metadata="title: [")
    with pytest.raises(InvalidInput, match="is not YAML"):
        find("toy").metadata()
