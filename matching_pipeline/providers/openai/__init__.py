"""Any server that speaks OpenAI's protocol, through OpenAI's own client."""
