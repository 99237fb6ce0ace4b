"""Who may do what: users with a token and a role, organisations, private and gated repositories."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback_hub.answers import HubError, repo_not_found
from loopback_hub.disk import read_json, write_json
from loopback_hub.repository import Repository


@dataclass(frozen=True)
class User:
    """Somebody with a token; the role is "write" or "read"."""

    name: str
    role: str = "write"

    @property
    def token(self) -> str:
        return "hf_" + hashlib.sha256(self.name.encode()).hexdigest()[:34]


class Accounts:
    """All users and organisations, kept in `accounts.json`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "accounts.json"
        self.users: dict[str, User] = {}
        self.organizations: dict[str, list[str]] = {}
        if self.path.is_file():
            value = read_json(self.path)
            self.users = {name: User(name, role) for name, role in value["users"].items()}
            self.organizations = value["organizations"]
        else:
            self.users = {"alice": User("alice"), "bob": User("bob"), "reader": User("reader", "read")}
            self.organizations = {"mini": ["alice", "bob"]}
            self.save()

    def save(self) -> None:
        users = {user.name: user.role for user in self.users.values()}
        write_json(self.path, {"users": users, "organizations": self.organizations})

    def add_user(self, name: str, role: str = "write") -> User:
        self.users[name] = User(name, role)
        self.save()
        return self.users[name]

    def add_organization(self, name: str, members: list[str]) -> None:
        self.organizations[name] = members
        self.save()

    def by_authorization(self, header: str | None) -> User | None:
        """Return the user of an Authorization header, None without one."""
        if header is None:
            return None
        token = header.removeprefix("Bearer ").strip()
        if header.startswith("Basic "):  # a user and a password in the address, as git sends them
            token = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")[2]
        for user in self.users.values():
            if user.token == token:
                return user
        raise HubError(401, "Invalid credentials in Authorization header")

    def owns(self, user: User | None, namespace: str) -> bool:
        return user is not None and (
            user.name == namespace or user.name in self.organizations.get(namespace, ())
        )

    def may_see(self, user: User | None, repo: Repository) -> bool:
        return not repo.meta["private"] or self.owns(user, repo.namespace)

    def check_sees(self, user: User | None, repo: Repository) -> None:
        if not self.may_see(user, repo):
            raise repo_not_found(user is not None)

    def check_reads(self, user: User | None, repo: Repository) -> None:
        """Refuse the files of a gated repository to those who were not let in."""
        self.check_sees(user, repo)
        if not repo.meta["gated"] or self.owns(user, repo.namespace):
            return
        if user is None:
            message = f"Access to {repo.kind} {repo.id} is restricted. You must have access to it and be"
            raise HubError(401, f"{message} authenticated to access it. Please log in.", "GatedRepo")
        if user.name not in repo.meta["granted"]:
            message = f"Access to {repo.kind} {repo.id} is restricted and you are not in the authorized list."
            raise HubError(403, f"{message} Ask for access on the page of the repository.", "GatedRepo")

    def check_writes(self, user: User | None, namespace: str) -> User:
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user.role != "write" or not self.owns(user, namespace):
            raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}")
        return user

    def whoami(self, user: User | None) -> dict[str, Any]:
        if user is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [
            {"type": "org", "id": name, "name": name, "fullname": name}
            for name, members in self.organizations.items()
            if user.name in members
        ]
        token = {"displayName": "loopback", "role": user.role, "createdAt": "2026-01-01T00:00:00.000Z"}
        return {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name.title(),
            "isPro": False,
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token},
        }
