"""A module written for DEEPaaS, which has never heard of this platform."""

# As DEEPaaS' own documentation writes them: fields by keyword, a file field, labels and probabilities; no evaluate(),
# no idea of places, an UploadedFile from DEEPaaS' wrapper.
CODE = """
from deepaas.model.v2.wrapper import UploadedFile
from webargs import fields, validate

def get_metadata():
    return {"name": "legacy", "author": "somebody", "license": "MIT", "description": "dark or light"}

def get_train_args():
    return {"epochs": fields.Int(load_default=1, metadata={"description": "passes over the data"})}

def train(**kwargs):
    return {"metrics": {"loss": 1.0 / (1 + kwargs["epochs"])}}

def get_predict_args():
    return {
        "data": fields.Raw(required=True, metadata={"type": "file", "location": "form", "description": "an image"}),
        "accept": fields.Str(load_default="application/json", validate=validate.OneOf(["application/json"])),
    }

def predict(**kwargs):
    assert isinstance(kwargs["data"], UploadedFile) or kwargs["data"].filename
    from PIL import Image
    pixels = list(Image.open(kwargs["data"].filename).convert("L").getdata())
    light = sum(pixels) / len(pixels) / 255
    ranked = sorted({"dark": 1 - light, "light": light}.items(), key=lambda item: -item[1])
    return {"labels": [name for name, _ in ranked], "probabilities": [value for _, value in ranked]}
"""
