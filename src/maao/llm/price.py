"""What tokens cost. A price is given by the user, or looked up in the table that the package `genai-prices` carries; never guessed."""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens read and written.

    Example:
        >>> Price(input=0.5, output=2.0).usd(1_000_000, 500_000)
        1.5
    """

    input: float
    output: float

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        return (self.input * input_tokens + self.output * output_tokens) / MILLION


FREE = Price(0.0, 0.0)


def known_price(model: str, base_url: str) -> Price | None:
    """Return the list price of a model at a provider, or None if the table (or the package that carries it) does not know it.

    The price is that of a short prompt without caching: providers that charge more for very long prompts charge more than this says.
    """
    try:
        import genai_prices
    except ImportError:
        return None
    probe = genai_prices.Usage(input_tokens=1000, output_tokens=1000)
    try:
        found = genai_prices.calc_price(probe, model, provider_api_url=base_url)
    except LookupError:
        return None
    return Price(input=float(found.input_price) * 1000, output=float(found.output_price) * 1000)
