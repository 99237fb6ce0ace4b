"""Calls on users and on repositories as a whole."""

from __future__ import annotations

from loopback_hub import listing
from loopback_hub.answers import Answer, HubError
from loopback_hub.call import Call
from loopback_hub.model_card import errors_in
from loopback_hub.repositories import KINDS
from loopback_hub.repository import Repository


def whoami(call: Call) -> Answer:
    return Answer.json(call.world.accounts.whoami(call.user))


def agent_harnesses(_: Call) -> Answer:
    return Answer.json({"standardEnvVars": [], "harnesses": {}})


def overview_of_user(call: Call) -> Answer:
    name = call.part("name")
    if name not in call.world.accounts.users:
        raise HubError(404, "This user does not exist")
    return Answer.json(
        {
            "user": name,
            "fullname": name.title(),
            "type": "user",
            "avatarUrl": "",
            "isPro": False,
            **totals(call, name),
        }
    )


def overview_of_organization(call: Call) -> Answer:
    name = call.part("name")
    if name not in call.world.accounts.organizations:
        raise HubError(404, "This organization does not exist")
    members = len(call.world.accounts.organizations[name])
    return Answer.json(
        {"name": name, "fullname": name, "avatarUrl": "", "numUsers": members, **totals(call, name)}
    )


def totals(call: Call, namespace: str) -> dict[str, int]:
    counts = {}
    for kind in KINDS:
        repos = call.world.repositories.all(kind)
        visible = [repo for repo in repos if call.world.accounts.may_see(call.user, repo)]
        counts[f"num{kind.title()}s"] = sum(repo.namespace == namespace for repo in visible)
    return counts


def validate_yaml(call: Call) -> Answer:
    wrong = errors_in(call.json().get("content", ""))
    value = {"errors": [{"message": message} for message in wrong], "warnings": []}
    return Answer.json(value, 400 if wrong else 200)


# --- repositories


def create_repo(call: Call) -> Answer:
    kind, repo_id = named_in_body(call)
    user = call.world.accounts.check_writes(call.user, repo_id.partition("/")[0])
    value = call.json()
    private = value.get("visibility") == "private" or value.get("private") is True
    url = f"{call.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
    try:
        repo = call.world.repositories.create(kind, repo_id, author=user.name, private=private)
    except HubError as error:
        error.more = {"url": url}
        raise
    return Answer.json({"url": url, "name": repo.id, "id": repo.meta["_id"]})


def delete_repo(call: Call) -> Answer:
    repo = owned(call, *named_in_body(call))
    call.world.repositories.delete(repo)
    return Answer.json({})


def move_repo(call: Call) -> Answer:
    value = call.json()
    repo = owned(call, value.get("type", "model"), value["fromRepo"])
    call.world.accounts.check_writes(call.user, value["toRepo"].partition("/")[0])
    call.world.repositories.rename(repo, value["toRepo"])
    return Answer.json({})


def settings(call: Call) -> Answer:
    repo, _ = call.writable()
    value = call.json()
    with repo.lock:
        if "gated" in value:
            repo.meta["gated"] = value["gated"]
        if "visibility" in value or "private" in value:
            repo.meta["private"] = value.get("visibility") == "private" or value.get("private") is True
        repo.save()
    return Answer.json({})


def named_in_body(call: Call) -> tuple[str, str]:
    value = call.json()
    kind = value.get("type") or "model"
    if kind not in KINDS or not isinstance(value.get("name"), str):
        raise HubError(400, f"This server has no repositories of type {kind!r}")
    namespace = value.get("organization") or (call.user.name if call.user else "")
    return kind, f"{namespace}/{value['name']}"


def owned(call: Call, kind: str, repo_id: str) -> Repository:
    call.parts = {"kind": kind, **dict(zip(("namespace", "name"), repo_id.split("/"), strict=True))}
    return call.writable()[0]


def info(call: Call) -> Answer:
    repo = call.seen()
    commit = call.commit(repo)
    newest = repo.resolve("main", call.refs(repo))
    return Answer.json(listing.info(repo, commit, newest, call.query))


def list_repos(call: Call) -> Answer:
    repos = call.world.repositories.all(call.kind)
    visible = [repo for repo in repos if call.world.accounts.may_see(call.user, repo)]
    return call.page(listing.search(visible, call.query))
