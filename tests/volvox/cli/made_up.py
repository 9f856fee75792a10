"""A cycle that never was, for tests of what is shown at the end of one."""

from __future__ import annotations

from volvox.records import (
    Attempt,
    ClassScore,
    Cycle,
    Dataset,
    Evaluation,
    Image,
    ModelVersion,
    Service,
    StageTime,
    TrainedModel,
    Verdict,
)


def made_up_cycle(classes: int = 10, *, accepted: bool = True, attempts: int = 1) -> Cycle:
    names = tuple(f"class {number}" for number in range(classes))
    scores = tuple(
        ClassScore(name=name, precision=0.95, recall=0.95, f1=1.0 - 0.9 * number / classes, support=27)
        for number, name in enumerate(names)
    )
    dataset = Dataset(
        name="digits",
        source="/data/digits",
        classes=names,
        counts={"train": (120,) * classes, "val": (27,) * classes, "test": (27,) * classes},
        content="c" * 64,
        learning_tree="1" * 64,
        held_out_tree="2" * 64,
        manifest_object="3" * 64,
        rejected_total=5,
    )
    model = TrainedModel(
        module="image_classifier", module_version="0.1.0", code="d" * 64, dataset=dataset.digest, arguments={},
        weights_tree="4" * 64, run_id="run1",
    )  # fmt: skip
    metrics = {"accuracy": 0.985, "macro_f1": 0.984, "top5_accuracy": 1.0, "calibration_error": 0.012}
    evaluation = Evaluation(model=model.digest, dataset=dataset.digest, metrics=metrics, per_class=scores, images=270)
    verdict = Verdict(
        accepted=accepted,
        reason="accuracy 0.985 is at least the 0.97 that the module asks, and not worse than version 1 on the same "
        "data (0.981; difference +0.004, 95 % interval -0.007 to +0.015)",
        metric="accuracy",
        value=0.985,
        threshold=0.97,
    )
    tried = tuple(
        Attempt(arguments={"epochs": 10 * number, "seed": 0}, metrics=metrics, verdict=verdict)
        for number in range(1, attempts + 1)
    )
    stages = ("data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference")
    version = ModelVersion(
        name="digits", version="2", model=model.digest, module="image_classifier", code="d" * 64,
        weights_tree="4" * 64, verdict=verdict, champion=True,
    )  # fmt: skip
    service = Service(
        name="digits",
        version="2",
        model_version=version.digest,
        url="http://127.0.0.1:8080",
        predict_url="http://127.0.0.1:8080/v2/models/digits/predict/",
        try_url="http://127.0.0.1:8080/models/digits/",
        module_description={"predict": [{"name": "top", "type": "integer"}, {"name": "image", "type": "file"}]},
    )
    return Cycle(
        name="digits",
        dataset=dataset,
        model=model,
        evaluation=evaluation,
        attempts=tried,
        version=version if accepted else None,
        image=Image(name="volvox/digits:2", version=version.digest, context_object="5" * 64, built=True,
                    bytes=291_000_000, seconds=48.2) if accepted else None,
        service=service if accepted else None,
        stages=tuple(StageTime(stage=name, seconds=4.25, work_seconds=4.0, reused=name == "data") for name in stages),
        links={
            "Prefect": "http://127.0.0.1:4200/runs/flow-run/6a1ff8a1-5f62-4f6b-bd1a-3a4dfe5f6c7d",
            "MLflow": "http://127.0.0.1:5500/#/experiments/1/runs/0123456789abcdef0123456789abcdef",
            "catalogue": "http://127.0.0.1:8080/catalogue/digits/",
            "example": "/home/someone/.volvox/demo/digits/3/0017 b.png",
        },
    )  # fmt: skip
