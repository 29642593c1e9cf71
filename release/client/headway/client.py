"""The client where the server is not installed: ``headway.client`` out of the folder ``_headway_client``.

The server has a client of its own, the folder ``headway/client``. If both are installed, Python finds that folder
before this file, and no file belongs to both.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _headway_client import *  # noqa: F403
else:
    _folder = Path(__file__).parent.parent / "_headway_client"
    _spec = spec_from_file_location(__name__, _folder / "__init__.py", submodule_search_locations=[str(_folder)])
    _client = module_from_spec(_spec)
    sys.modules[__name__] = _client
    _spec.loader.exec_module(_client)
