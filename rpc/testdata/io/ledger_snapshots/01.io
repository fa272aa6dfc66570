>> {"id":1,"jsonrpc":"2.0","method":"ledger_snapshots","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":[]}
