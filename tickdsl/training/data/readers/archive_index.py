"""The members of an archive, with links between them followed."""

from __future__ import annotations

import posixpath

import attrs

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.file_entries import MAX_IMAGES, Listing, Skipped, is_data, is_image, split_and_class

_MAX_LINKS_FOLLOWED = 40  # as many as Linux follows for one path


@attrs.define
class ArchiveIndex:
    """Collects an archive's members, one by one, and lists its images.

    Only images and links are kept, so a large archive of other files takes little memory.
    """

    _listing: Listing = attrs.field(factory=Listing)
    _files: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    _links: dict[str, str] = attrs.field(factory=dict)

    def add_file(self, member: str, size: int) -> None:
        """Add a regular file. Raises TickdslError if an image is there twice, or if there are too many images."""
        name = posixpath.normpath(member)
        if self._listing.skip_if_system(name):
            return
        if not is_data(name):
            self._listing.add(name, member, size)
            return
        if name in self._files:
            raise TickdslError(
                f"`{printable_line(name)}` is in it twice",
                "unpack it, which keeps the last one, and set path= to the folder",
            )
        self._files[name] = (member, size)

    def add_link(self, member: str, target: str) -> None:
        """Add a link. target: the member's name that it leads to, or an absolute path."""
        name = posixpath.normpath(member)
        if not self._listing.skip_if_system(name) and len(self._links) < MAX_IMAGES:
            self._links[name] = target

    def listing(self) -> Listing:
        """All images, also under the names that links give them.

        Raises TickdslError if an image or a class is a link to something that is not in the archive.
        """
        for name, (member, size) in self._files.items():
            self._listing.add(name, member, size)
        names_by_folder = self._names_by_folder() if self._links else {}
        for link in self._links:
            target = self._resolve(link)
            names = [target] if target in self._files else names_by_folder.get(target or "", [])
            if target is None or not names:
                self._skip_broken(link)
            elif f"{link}/".startswith(f"{target}/"):
                self._listing.skip(Skipped.CIRCULAR, link)
            else:
                for name in names:
                    member, size = self._files[name]
                    self._listing.add(link + name.removeprefix(target), member, size, linked=True)
        return self._listing

    def _names_by_folder(self) -> dict[str, list[str]]:
        """The names of the files in every folder that a link leads to, at any depth."""
        targets = {self._resolve(link) for link in self._links}
        by_folder: dict[str, list[str]] = {}
        for name in self._files:
            folder = posixpath.dirname(name)
            while folder:
                if folder in targets:
                    by_folder.setdefault(folder, []).append(name)
                folder = posixpath.dirname(folder)
        return by_folder

    def _resolve(self, link: str) -> str | None:
        """The name that a link leads to in the end; None if that is outside of the archive, or the link itself."""
        name = link
        for _ in range(_MAX_LINKS_FOLLOWED):
            at_link = next((prefix for prefix in _prefixes(name) if prefix in self._links), None)
            if at_link is None:
                return name
            name = posixpath.normpath(self._links[at_link] + name.removeprefix(at_link))
            if name.startswith(("/", "..")):
                return None
        return None

    def _skip_broken(self, link: str) -> None:
        if is_image(link) or split_and_class(f"{link}/image"):
            raise TickdslError(
                f"`{printable_line(link)}` is a link to `{printable_line(self._links[link])}`, which is not in it",
                "unpack it where the links lead to files, and set path= to the folder",
            )
        self._listing.skip(Skipped.BROKEN, link)


def _prefixes(name: str) -> list[str]:
    """The folders that lead to a name, and the name itself."""
    parts = name.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]
