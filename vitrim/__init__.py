"""vitrim: adapt a Vision Transformer with few parameters to train and few tokens to run."""

from typing import TYPE_CHECKING

from vitrim.lazy import import_names_when_used

if TYPE_CHECKING:  # imported when first used: see vitrim/lazy.py
    from vitrim.compose import compose as compose
    from vitrim.compose import merge as merge
    from vitrim.data import open_data as open_data
    from vitrim.dense.model import DenseModel as DenseModel
    from vitrim.dense.openvocab import OpenVocabulary as OpenVocabulary
    from vitrim.dense.saving import load_dense as load_dense
    from vitrim.dense.saving import save_dense as save_dense
    from vitrim.dense.spec import open_dense_data as open_dense_data
    from vitrim.dense.training import train_dense as train_dense
    from vitrim.deploy.bulk.predicting import bulk_embed as bulk_embed
    from vitrim.deploy.bulk.predicting import bulk_predict as bulk_predict
    from vitrim.deploy.export import export as export
    from vitrim.deploy.exported import open_exported as open_exported
    from vitrim.deploy.pool import AdapterPool as AdapterPool
    from vitrim.deploy.together import together as together
    from vitrim.files.peft_layout import load_peft as load_peft
    from vitrim.files.peft_layout import save_peft as save_peft
    from vitrim.files.plain_timm import to_timm as to_timm
    from vitrim.files.saving import load as load
    from vitrim.files.saving import save as save
    from vitrim.files.swap import swap as swap
    from vitrim.measuring.bench import bench as bench
    from vitrim.measuring.costs import Costs as Costs
    from vitrim.measuring.costs import costs as costs
    from vitrim.measuring.costs_on_images import costs_on_images as costs_on_images
    from vitrim.measuring.pruning import layer_scores as layer_scores
    from vitrim.measuring.pruning import prune_layers as prune_layers
    from vitrim.methods.first_blocks import FirstBlocks as FirstBlocks
    from vitrim.methods.notation import METHODS as METHODS
    from vitrim.methods.notation import REDUCERS as REDUCERS
    from vitrim.methods.notation import TUNERS as TUNERS
    from vitrim.methods.notation import parse_method as parse_method
    from vitrim.methods.plugins import load_plugin as load_plugin
    from vitrim.methods.plugins import register as register
    from vitrim.methods.reducers import LTMP as LTMP
    from vitrim.methods.reducers import PYRA as PYRA
    from vitrim.methods.reducers import Bipartite as Bipartite
    from vitrim.methods.reducers import DynamicViT as DynamicViT
    from vitrim.methods.reducers import EViT as EViT
    from vitrim.methods.reducers import Pool as Pool
    from vitrim.methods.reducers import ToMe as ToMe
    from vitrim.methods.tuners import NOAH as NOAH
    from vitrim.methods.tuners import SSF as SSF
    from vitrim.methods.tuners import VPT as VPT
    from vitrim.methods.tuners import Adapter as Adapter
    from vitrim.methods.tuners import BitFit as BitFit
    from vitrim.methods.tuners import Convpass as Convpass
    from vitrim.methods.tuners import DenseAdapter as DenseAdapter
    from vitrim.methods.tuners import DyT as DyT
    from vitrim.methods.tuners import FacT as FacT
    from vitrim.methods.tuners import FisherDelta as FisherDelta
    from vitrim.methods.tuners import Full as Full
    from vitrim.methods.tuners import LayerNormTuning as LayerNormTuning
    from vitrim.methods.tuners import Linear as Linear
    from vitrim.methods.tuners import LoRA as LoRA
    from vitrim.methods.tuners import RepAdapter as RepAdapter
    from vitrim.methods.tuners import ResTuning as ResTuning
    from vitrim.methods.tuners import SynQT as SynQT
    from vitrim.network.budgeting import fixed as fixed
    from vitrim.papers.verdicts import reproduce as reproduce
    from vitrim.planner.proposals import propose as propose
    from vitrim.report.explaining import explain as explain
    from vitrim.report.showing import show as show
    from vitrim.runs.evaluate import evaluate as evaluate
    from vitrim.runs.predict import predict as predict
    from vitrim.settings.protocols import PROTOCOLS as PROTOCOLS
    from vitrim.settings.recipes import RECIPES as RECIPES
    from vitrim.settings.recipes import find_recipe as find_recipe
    from vitrim.settings.training import Training as Training
    from vitrim.speed.measuring import measure_speed as measure_speed
    from vitrim.sweep.running import sweep as sweep
    from vitrim.sweep.search import Searched as Searched
    from vitrim.sweep.search import search as search
    from vitrim.tokens.restore import restore as restore
    from vitrim.tokens.state import TokenState as TokenState
    from vitrim.training.fitting import fit as fit
    from vitrim.training.loop import train as train
    from vitrim.video.model import VideoModel as VideoModel
    from vitrim.video.settings import Video as Video

__version__ = "0.1.0"

import_names_when_used(__name__)
