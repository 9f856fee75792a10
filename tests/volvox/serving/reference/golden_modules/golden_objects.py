"""Models as objects: one that inherits DEEPaaS' base, with a schema class; and a class that is no object yet."""

import marshmallow
from deepaas.model.v2.base import BaseModel
from webargs import fields


class Answer(marshmallow.Schema):
    total = fields.Int(required=True)


class Adder(BaseModel):
    schema = Answer

    def __init__(self):
        self.warmed = 0

    def get_metadata(self):
        return {"id": "adder", "name": "Adder", "description": "Adds."}

    def warm(self):
        self.warmed += 1

    def get_predict_args(self):
        return {"left": fields.Int(required=True), "right": fields.Int(missing=1)}

    def predict(self, left, right):
        return {"total": left + right}

    def get_train_args(self):
        raise NotImplementedError

    def train(self, **arguments):
        raise NotImplementedError


adder = Adder()
