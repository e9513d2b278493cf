"""Works a methods paragraph may cite, and their numbering in the order they are cited."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

REFERENCES = {
    "volta": "VolTA-3D: Self-Supervised Learning for Brain MRI using 3D Volumetric Token "
    "Alignment.",
    "dicom": "Parida A, Capellan-Martin D, Atito S, Awais M, Ledesma-Carbayo MJ, Linguraru MG, "
    "Anwar SM. DiCoM \N{EN DASH} Diverse Concept Modeling towards Enhancing Generalizability in "
    "Chest X-Ray Studies. 2024, arXiv:2402.15534.",
    "dino": "Caron M, Touvron H, Misra I, Jégou H, Mairal J, Bojanowski P, Joulin A. Emerging "
    "Properties in Self-Supervised Vision Transformers. ICCV 2021, arXiv:2104.14294.",
    "ibot": "Zhou J, Wei C, Wang H, Shen W, Xie C, Yuille A, Kong T. iBOT: Image BERT Pre-Training "
    "with Online Tokenizer. ICLR 2022, arXiv:2111.07832.",
    "gmml": "Atito S, Awais M, Kittler J. GMML is All you Need. 2022, arXiv:2205.14986.",
    "mcssl": "Atito S, Awais M, Farooq A, Feng Z, Kittler J. MC-SSL0.0: Towards Multi-Concept "
    "Self-Supervised Learning. 2021, arXiv:2111.15340.",
    "3dino": "Xu T, Hosseini S, Anderson C, Rinaldi A, Krishnan RG, Martel AL, Goubran M. A "
    "generalizable 3D framework and model for self-supervised learning in medical imaging. 2025, "
    "arXiv:2501.11755.",
    "vit": "Dosovitskiy A, et al. An Image is Worth 16x16 Words: Transformers for Image "
    "Recognition at Scale. ICLR 2021, arXiv:2010.11929.",
    "monai": "Cardoso MJ, et al. MONAI: An open-source framework for deep learning in healthcare. "
    "2022, arXiv:2211.02701.",
    "unetr": "Hatamizadeh A, et al. UNETR: Transformers for 3D Medical Image Segmentation. WACV "
    "2022, arXiv:2103.10504.",
    "swin": "Liu Z, et al. Swin Transformer: Hierarchical Vision Transformer using Shifted "
    "Windows. ICCV 2021, arXiv:2103.14030.",
    "unet": "Çiçek Ö, Abdulkadir A, Lienkamp SS, Brox T, Ronneberger O. 3D U-Net: Learning Dense "
    "Volumetric Segmentation from Sparse Annotation. MICCAI 2016, arXiv:1606.06650.",
    "delong": "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more "
    "correlated receiver operating characteristic curves. Biometrics 44, 1988, "
    "837\N{EN DASH}845.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics 6, 1979, 65\N{EN DASH}70.",
    "adamw": "Loshchilov I, Hutter F. Decoupled Weight Decay Regularization. ICLR 2019, "
    "arXiv:1711.05101.",
    "rank": "Roy O, Vetterli M. The effective rank: A measure of effective dimensionality. EUSIPCO "
    "2007, 606\N{EN DASH}610.",
    "sklearn": "Pedregosa F, et al. Scikit-learn: Machine Learning in Python. Journal of Machine "
    "Learning Research 12, 2011, 2825\N{EN DASH}2830.",
    "koleo": "Sablayrolles A, Douze M, Schmid C, Jégou H. Spreading vectors for similarity search. "
    "ICLR 2019, arXiv:1806.03198.",
}

_CITE = re.compile(r"\[@([a-z0-9,]+)\]")


@dataclass(frozen=True)
class Cited:
    """Numbers of cited works, in the place where the text cites them."""

    numbers: tuple[int, ...]


Paragraph = list[str | Cited]


def number_citations(texts: Iterable[str]) -> tuple[list[Paragraph], list[str]]:
    """Texts with marks like ``[@dino,ibot]`` as paragraphs, and the works in order of citation.

    Raises:
        KeyError: a mark names a work that ``REFERENCES`` lacks.
    """
    order: list[str] = []
    paragraphs = []
    for text in texts:
        pieces: Paragraph = []
        for i, piece in enumerate(_CITE.split(text)):
            if i % 2 == 0:
                pieces.append(piece)
                continue
            keys = piece.split(",")
            order += [key for key in dict.fromkeys(keys) if key not in order]
            pieces.append(Cited(tuple(order.index(key) + 1 for key in keys)))
        paragraphs.append(pieces)
    return paragraphs, [REFERENCES[key] for key in order]
