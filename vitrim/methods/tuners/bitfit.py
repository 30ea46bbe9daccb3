"""BitFit: only biases train, in place."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitrim.backbones.sites import ROLES, Site
from vitrim.checks import check_one_of, several
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class BitFit(Method):
    """Bias tuning (arXiv 2106.10199): y = W x + b with W frozen and b trained from its pre-trained value.

    Every bias of patch embedding, norms and linear layers: D (11 L + 2) parameters (ViT-B/16: 102,912;
    without patch embedding and final norm, as some tables count, 101,376). EVA-02's and DINOv3's query
    and value biases, which timm keeps apart, are included; biases a backbone does not have are not added.
    The released code is for language models and trains query and fc1 biases only (`roles=("query",
    "mlp_in")`), which no table on images uses.

    Attributes:
        roles: which layers' biases, any of query, key, value, attention_out, mlp_in, mlp_out, norm,
            patch; query, key
            and value go together on backbones that compute them in one layer with one bias.
        at: indices of the blocks whose biases train, counted from 0; None for all, and those outside the
            blocks.
    """

    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True

    roles: tuple[str, ...] = option(ROLES)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        store_setting(self, "roles", several("BitFit", "roles", self.roles, str))
        if not self.roles:
            raise ValueError(f"BitFit: roles is empty; name at least one of {', '.join(ROLES)}")
        for role in self.roles:
            check_one_of("BitFit", "roles", role, ROLES)

    def attach(self, model: "StagedViT") -> None:
        sites = list(model.sites_in(self.at, self))
        wanted = [site for site in sites if site.role in self.roles and site.bias is not None]
        self._check_all_there(wanted)
        others = {id(site.bias): site for site in sites if site.role not in self.roles}
        for site in wanted:
            if site.bias is None:
                continue
            if id(site.bias) in others:
                raise ValueError(
                    f"{self}: {site} has one bias with {others[id(site.bias)].role}; name both or neither"
                )
            site.bias.requires_grad_(True)

    def _check_all_there(self, wanted: list[Site]) -> None:
        """Refuse roles named on purpose that have no bias; with the default, what is missing is left out."""
        lacking = sorted(set(self.roles) - {site.role for site in wanted})
        if not wanted or (lacking and self.roles != ROLES):
            where = "this backbone has" if self.at is None else "these blocks have"
            raise ValueError(f"{self}: {where} no bias for {', '.join(lacking)}; name other roles")
