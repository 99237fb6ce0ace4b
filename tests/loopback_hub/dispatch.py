"""From a path to the function that answers it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from loopback_hub import account_calls, content_calls, revision_calls
from loopback_hub.answers import Answer, HubError, MovedError
from loopback_hub.call import Call
from loopback_hub.endpoints import ALL, Endpoint

HANDLERS: dict[str, Callable[[Call], Answer]] = {
    "whoami": account_calls.whoami,
    "agent-harnesses": account_calls.agent_harnesses,
    "user": account_calls.overview_of_user,
    "organization": account_calls.overview_of_organization,
    "validate-yaml": account_calls.validate_yaml,
    "create-repo": account_calls.create_repo,
    "delete-repo": account_calls.delete_repo,
    "move-repo": account_calls.move_repo,
    "settings": account_calls.settings,
    "info": account_calls.info,
    "list": account_calls.list_repos,
    "refs": revision_calls.refs,
    "create-tag": revision_calls.create_tag,
    "delete-tag": revision_calls.delete_tag,
    "create-branch": revision_calls.create_branch,
    "delete-branch": revision_calls.delete_branch,
    "tree": revision_calls.tree,
    "paths-info": revision_calls.paths_info,
    "commits": revision_calls.commits,
    "preupload": revision_calls.preupload,
    "commit": revision_calls.commit,
    "super-squash": revision_calls.super_squash,
    "lfs-batch": content_calls.lfs_batch,
    "lfs-upload": content_calls.lfs_upload,
    "lfs-verify": content_calls.lfs_verify,
    "lfs-files": content_calls.lfs_files,
    "lfs-delete": content_calls.lfs_delete,
    "resolve-head": content_calls.resolve,
    "resolve": content_calls.resolve,
    "contents": content_calls.contents,
    "xet-token": content_calls.xet_token,
}


def find(method: str, path: str) -> tuple[Endpoint | None, dict[str, str | None]]:
    for endpoint in ALL:
        if (match := endpoint.fits(method, path)) is not None:
            return endpoint, match.groupdict()
    return None, {}


def answer(endpoint: Endpoint | None, call: Call) -> Answer:
    """Carry out a request; whatever goes wrong is an answer too."""
    try:
        if endpoint is None:
            raise HubError(404, f"Cannot {call.method} {call.path}")
        return HANDLERS[endpoint.name](call)
    except HubError as error:
        return error.answer()
    except MovedError as moved:
        location = call.path.replace(moved.old, moved.new, 1)
        return Answer.json({"error": f"Moved to {location}"}, 307, {"Location": call.endpoint + location})
    except Exception:  # noqa: BLE001 - a defect of this server, to be seen in the test's output
        sys.stderr.write(traceback.format_exc())
        return Answer.json({"error": "Internal Server Error"}, 500)
