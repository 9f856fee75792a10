"""A module with required arguments, an `accept` that is read from the header, and a schema given as a dict."""

from webargs import fields, validate

schema = {
    "status": fields.Str(required=True, description="How it went"),
    "predictions": fields.List(
        fields.Nested({"label": fields.Str(required=True), "probability": fields.Float(required=True)})
    ),
    "count": fields.Int(),
}


def get_predict_args():
    return {
        "number": fields.Int(required=True, description="A number that must be given"),
        "data": fields.Field(required=True, type="file", location="form"),
        "fit": fields.Str(missing="yes"),
        "accept": fields.Str(
            validate=validate.OneOf(["application/json", "application/pdf"]), metadata={"location": "headers"}
        ),
    }


def predict(number, data, fit, accept):
    if accept == "application/pdf":
        return b"%PDF"
    answers = {
        "yes": {"status": "OK", "predictions": [{"label": accept, "probability": 0.5}]},
        "unknown key": {"status": "OK", "other": 1},
        "missing": {"predictions": []},
        "wrong type": {"status": "OK", "predictions": [{"label": "a", "probability": "much"}]},
        "lenient": {"status": "OK", "count": "3"},
        "no dict": "text",
    }
    return answers[fit]
