"""Where things lie in the bundle's dataset: what `bundle` writes there and the kernel reads."""

SOLUTION, RULES = "solution.json", "rules.json"


def weights_name(model: str, fold: int) -> str:
    """File of a model's weights; beside the others, since a dataset's folders travel as archives."""
    return f"{model}-fold{fold}.safetensors"
