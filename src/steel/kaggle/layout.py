"""What `bundle` and the kernel agree on: where things lie in the dataset, and how the log tells of haste."""

SOLUTION, RULES, FALLBACKS = "solution.json", "rules.json", "fallbacks.json"
HURRIED = "kernel: short of time: "  # how lines of the log begin that say what is left out


def weights_name(model: str, fold: int) -> str:
    """File of a model's weights; beside the others, since a dataset's folders travel as archives."""
    return f"{model}-fold{fold}.safetensors"
