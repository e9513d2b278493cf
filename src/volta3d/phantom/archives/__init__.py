"""Small synthetic copies of the paper's five archives, in the layouts they are downloaded in."""

from volta3d.phantom.archives.write import ARCHIVES, write_archives

__all__ = ["ARCHIVES", "write_archives"]
