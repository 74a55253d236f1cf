"""size.image, size.core0: bytes of what ships."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "qemu"))
from lab import paths  # noqa: E402
from lab.bench import figure, save  # noqa: E402

IMAGE_LIMIT, CORE0_LIMIT = 30_000_000, 400_000


def run():
    image = sum((paths.IMAGE / n).stat().st_size for n in ("vmlinuz", "initramfs.cpio.zst"))
    core0 = (paths.BUILD / "bin/core0").stat().st_size
    save("size", [
        figure("size.image", image, "byte", "the limit", IMAGE_LIMIT,
               note="vmlinuz and initramfs.cpio.zst together"),
        figure("size.core0", core0, "byte", "the limit", CORE0_LIMIT),
    ])


if __name__ == "__main__":
    run()
