"""Image-text retrieval: a composed vision tower beside a text tower, their training, their ranking, and
galleries that are searched with words. Read `model.py` first, then `losses.py` and `evaluating.py`.
"""

from typing import TYPE_CHECKING

from vitrim.lazy import import_names_when_used

if TYPE_CHECKING:  # imported when first used: see vitrim/lazy.py
    from vitrim.retrieval.blip import from_blip as from_blip
    from vitrim.retrieval.blip import open_blip as open_blip
    from vitrim.retrieval.clip import from_clip as from_clip
    from vitrim.retrieval.crossing import CrossModalText as CrossModalText
    from vitrim.retrieval.evaluating import evaluate_retrieval as evaluate_retrieval
    from vitrim.retrieval.fitting import train_retrieval as train_retrieval
    from vitrim.retrieval.for_language import LanguageVisionTower as LanguageVisionTower
    from vitrim.retrieval.gallery import Gallery as Gallery
    from vitrim.retrieval.gallery import open_searcher as open_searcher
    from vitrim.retrieval.keeping import load_retrieval as load_retrieval
    from vitrim.retrieval.keeping import save_retrieval as save_retrieval
    from vitrim.retrieval.model import Pairs as Pairs
    from vitrim.retrieval.model import RetrievalModel as RetrievalModel
    from vitrim.retrieval.plan import RetrievalPlan as RetrievalPlan
    from vitrim.retrieval.text import TextTower as TextTower
    from vitrim.retrieval.text import TransformersText as TransformersText
    from vitrim.retrieval.text import WordTower as WordTower
    from vitrim.retrieval.text_tuning import tune_text as tune_text
    from vitrim.retrieval.uniadapter import UniAdapter as UniAdapter

import_names_when_used(__name__)
