>> {"id":1,"jsonrpc":"2.0","method":"ledger_transactionStatus","params":["0x5b75c3f1d2027a6fe15f5a8c1a5f264ce383b3ee587bcbd561ef8e347844650e"]}
<< {"jsonrpc":"2.0","id":1,"result":{"status":"included","blockHash":"0xefed79a6d795e6cc7b56f523598d36c2bc94e2b689fa904716d30e5cdc811c54"}}
