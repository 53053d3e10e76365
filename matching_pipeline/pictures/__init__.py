"""Pictures: fetched within limits, decoded, stored, and the orders for those that are made."""
