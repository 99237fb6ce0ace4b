"""What a Hub has said within one operation, so that nothing is asked for twice.

    with client.asking_once():
        client.refs(repo), client.refs(repo)      # one request

A commit's files never change. Branches and tags do: what this client writes itself is entered here, and
whatever else happens makes it ask again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapter_hub.hub.names import ExpectedFile, Refs, RemoteFile, RepoId

MOST_KEPT = 2**20  # bytes of a file that is kept in memory
Tree = dict[str, RemoteFile]


@dataclass
class Answers:
    """What is known of repositories.

    Attributes:
        refs: of each repository.
        trees: of each commit.
        contents: of small files, by repository and path: the last that was read or written.
    """

    refs: dict[RepoId, Refs] = field(default_factory=dict)
    trees: dict[tuple[RepoId, str], Tree] = field(default_factory=dict)
    contents: dict[tuple[RepoId, str], bytes] = field(default_factory=dict)

    def moved(self, repo: RepoId, branch: str, commit: str) -> None:
        """Enter that this client has moved a branch, in one step from where it was known to be.

        Args:
            repo: the repository.
            branch: of it.
            commit: that the branch names now.
        """
        if (known := self.refs.get(repo)) is not None:
            self.refs[repo] = Refs({**known.branches, branch: commit}, known.tags)

    def keep(self, repo: RepoId, files: Mapping[str, bytes | Path]) -> None:
        """Remember the content of small files.

        Args:
            repo: the repository.
            files: by path, the content or a file that holds it.
        """
        for path, content in files.items():
            if (len(content) if isinstance(content, bytes) else content.stat().st_size) <= MOST_KEPT:
                data = content if isinstance(content, bytes) else content.read_bytes()
                self.contents[repo, path] = data

    def known(
        self, repo: RepoId, commit: str, expected: Mapping[str, ExpectedFile | None]
    ) -> dict[str, bytes]:
        """Return the content of the files that need no download: the commit lists it, by its hash.

        Args:
            repo: the repository.
            commit: 40 hexadecimal digits.
            expected: what is wanted, by path; where it is known what a file has to be, it is downloaded.
        """
        tree = self.trees.get((repo, commit), {})
        held = {path: self.contents.get((repo, path)) for path, item in expected.items() if item is None}
        return {
            path: data
            for path, data in held.items()
            if data is not None and path in tree and tree[path].holds(data)
        }
