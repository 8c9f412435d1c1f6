"""Whose a kernel is: known without what packs it, whose libraries load for seconds."""

import os
import re
from pathlib import Path

from steel import files
from steel.errors import UserError
from steel.kaggle.parts import KERNEL


def owner_name(given: str | None, folder: Path) -> str:
    """The Kaggle user of the bundle in a folder.

    As given, or as the environment or the token's file says, or as the bundle has it that stands there, or else as
    Kaggle knows the token.
    """
    token = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle")) / "kaggle.json"
    name = given or os.environ.get("KAGGLE_USERNAME")
    if not name and token.is_file():
        known = files.read_json(token)
        name = known.get("username") if isinstance(known, dict) else None
    name = name or of_bundle(folder)
    if not name:
        from steel.kaggle import client  # the only one here that takes its time

        try:
            name = client.user_of(client.open_api())  # of the tokens of today no file tells whose they are
        except UserError as fault:
            advice = "give --owner NAME, set KAGGLE_USERNAME, or let your token tell it"
            raise UserError(f"no Kaggle user name is known: {advice} ({fault})") from None
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise UserError(f"--owner: {name!r} is no Kaggle user name; allowed: letters, digits and -")
    return name


def of_bundle(folder: Path) -> str:
    """The user of the bundle that stands in a folder; '' without one."""
    metadata = folder / KERNEL
    return files.read_json(metadata)["id"].partition("/")[0] if metadata.exists() else ""
