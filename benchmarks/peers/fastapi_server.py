"""A plain FastAPI server: `python fastapi_server.py PORT`; uvicorn with httptools and uvloop, one process.

`PEER_SETTING`: `{"how": "async"}` computes in the event loop, `"sync"` in FastAPI's thread pool, `"thread"` reads in
the loop and computes in one thread of its own. `{"how": "process"}` is the trivial function of part A in a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.responses import JSONResponse
from trivial_function import predict

HOW = json.loads(os.environ.get("PEER_SETTING", "{}")).get("how", "async")


def digits(app: FastAPI) -> None:
    """Add the route of part B."""
    import digits_model

    if HOW == "sync":

        @app.post("/predict")
        def classify_in_pool(image: UploadFile) -> JSONResponse:
            return JSONResponse(digits_model.answer(image.file.read()))

    elif HOW == "thread":
        pool = ThreadPoolExecutor(1)

        @app.post("/predict")
        async def classify_in_thread(image: UploadFile) -> JSONResponse:
            picture = await image.read()
            loop = asyncio.get_running_loop()
            return JSONResponse(await loop.run_in_executor(pool, digits_model.answer, picture))

    else:

        @app.post("/predict")
        async def classify(image: UploadFile) -> JSONResponse:
            return JSONResponse(digits_model.answer(await image.read()))


def trivial(app: FastAPI) -> None:
    """Add the route of part A."""
    pool = ProcessPoolExecutor(1)

    @app.post("/predict")
    async def ask(number: int = 1, text: str = "") -> JSONResponse:
        told: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(pool, predict, number, text)
        return JSONResponse({"status": "OK", "predictions": told})


def main(port: int) -> None:
    """Serve until a signal."""
    app = FastAPI()
    (trivial if HOW == "process" else digits)(app)
    uvicorn.run(app, host="127.0.0.1", port=port, http="httptools", loop="uvloop", log_level="error", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
