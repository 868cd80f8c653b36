import torch

from nid_dist.code import Code
from nid_dist.parallel.exchange.exchange import Exchange, LocalExchange


def test_the_local_form_sends_nothing():
    exchange = LocalExchange()
    code = Code(torch.ones(2, 1), torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.long))
    rows = torch.rand(2, 3, requires_grad=True)
    assert exchange.dispatch(code)() is code
    assert exchange.share(rows) is rows
    assert exchange.combine(rows, 2) is rows
    assert exchange.gather(rows) is rows
    assert (exchange.first_expert, sum(exchange.traffic.bytes.values())) == (0, 0)
    assert isinstance(exchange, Exchange)
