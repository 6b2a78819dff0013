"""The label of what an application sends."""

from __future__ import annotations

from gateway.errors import InvalidLabel
from gateway.identity.api_keys import Caller
from policies.header import parse_header
from policies.labels import Label, labelled
from policies.refusal import PolicyRefusal


def ingress_label(header: str | None, caller: Caller, reader: str) -> Label:
    """The Data-Label that came, or the label of data for which the caller said nothing.

    An unmodified client sends no label. Its data is then owned by its API key and readable by runtimes under
    this gateway's reference values, and by nobody else: a label that restricts, not the absence of one.

    Raises:
        InvalidLabel: the header is not a label; never taken for *no header*.
    """
    if header is None:
        return labelled({f"svc:{caller.key_id}": [reader]})
    try:
        return parse_header(header)
    except PolicyRefusal as error:
        detail = "The Data-Label header is not a label."
        raise InvalidLabel(detail, param="Data-Label", refusal=error.code) from error
