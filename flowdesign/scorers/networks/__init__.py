"""The networks of the learned scorers, in torch: imported only when one of them is opened."""
