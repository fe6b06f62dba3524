"""Images by a list of files, the unreadable ones told apart."""

import numpy as np
import torch
from PIL import Image, ImageOps

from conftest import draw_image
from lightning_transfer.data.image_list import ImageList


def test_items_are_the_files_pixels_and_one_that_cannot_be_read_is_black(tmp_path):
    paths = [tmp_path / name for name in ("b.png", "page.jpg", "a.png", "nowhere.png")]
    draw_image(paths[0], (200, 90, 60), 0, (60, 40))
    draw_image(paths[2], (60, 90, 200), 1, (60, 40))
    paths[1].write_text("<html>")
    for resize in ("squash", "crop"):
        image_folder = ImageList(paths, 32, resize)
        assert [image_folder[i][1] for i in range(len(image_folder))] == [True, False, True, False]
        for index in (0, 2):
            with Image.open(paths[index]) as image:
                whole = image.resize((32, 32), Image.Resampling.BILINEAR)
                cut = ImageOps.fit(image, (32, 32), Image.Resampling.BILINEAR)
            expected = np.asarray(whole if resize == "squash" else cut).transpose(2, 0, 1)
            np.testing.assert_array_equal(image_folder[index][0], expected)
        assert torch.equal(image_folder[1][0], torch.zeros(3, 32, 32, dtype=torch.uint8))
