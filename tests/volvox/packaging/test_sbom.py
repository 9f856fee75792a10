from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from volvox.packaging.requirements import Pin
from volvox.packaging.sbom import bill_of_materials, planned_inventory

INVENTORY = {
    "python": "3.11.7",
    "distributions": [
        {"name": "volvox", "version": "0.1", "license": "Apache-2.0", "requires": ["PyYAML", "x; extra == 'y'"]},
        {"name": "PyYAML", "version": "6.0", "license": "MIT License", "requires": []},
    ],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"weights")
    return tmp_path / "model"


def _bill(model: Path) -> dict:
    return json.loads(
        bill_of_materials("volvox/digits", "1", INVENTORY, model, context="c", base="python:3.11", roots=["volvox"])
    )


def test_it_is_valid_by_the_schema_of_cyclonedx_1_6(model: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(_bill(model)))
    except Exception as error:
        pytest.skip(f"the validator's own dependencies are not installed: {error}")
    assert fault is None


def test_it_lists_libraries_with_licence_and_purl_and_who_needs_whom(model: Path) -> None:
    bill = _bill(model)
    library = next(part for part in bill["components"] if part["name"] == "PyYAML")
    assert library["purl"] == "pkg:pypi/pyyaml@6.0"
    assert library["licenses"] == [{"license": {"name": "MIT License"}}]
    needs = {line["ref"]: line.get("dependsOn", []) for line in bill["dependencies"]}
    assert needs["volvox@0.1"] == ["pyyaml@6.0"]
    assert "volvox@0.1" in needs["image"]


def test_it_lists_the_model_with_the_digest_of_each_file(model: Path) -> None:
    part = next(part for part in _bill(model)["components"] if part["type"] == "machine-learning-model")
    assert [file["name"] for file in part["components"]] == ["/model/model.onnx"]
    assert part["components"][0]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"weights").hexdigest()}]


def test_the_same_context_has_the_same_serial_number(model: Path) -> None:
    assert _bill(model)["serialNumber"] == _bill(model)["serialNumber"]


def test_without_an_engine_it_lists_the_pins_with_what_is_known_of_them_here() -> None:
    told = planned_inventory([Pin("onnxruntime", "1")], ["volvox"])
    names = {line["name"]: line["license"] for line in told["distributions"]}
    assert names["volvox"] == "Apache-2.0"
    assert names["onnxruntime"]
