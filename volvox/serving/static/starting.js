// A real reload, unlike a refresh, keeps the part of the address behind the #, which leads to a place in MLflow's pages.
"use strict";

setTimeout(() => location.reload(), 1000);
