"""Adapters are made and loaded once; tests that change a pool make their own."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from served import pool_of, save_adapters

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="session")
def pool(files: dict[str, Path]) -> AdapterPool:
    return pool_of(files)


@pytest.fixture(scope="module")
def application(pool: AdapterPool) -> FastAPI:
    return make_application(pool)
