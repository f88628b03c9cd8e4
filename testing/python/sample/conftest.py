import pytest
from login_backend import LoginBackend

# For the tests of the plugin itself.
pytest_plugins = ["pytester"]


@pytest.fixture
def backend(countersign):
    backend = LoginBackend(countersign.twilio(), countersign.service_sid)
    yield backend
    backend.close()
