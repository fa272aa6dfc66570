>> {"id":1,"jsonrpc":"2.0","method":"ledger_transactionStatus","params":["0xac6804bd2d4868aa4b3c88914df342093afa53734bbb70fa07d3aa106ceb684a"]}
<< {"jsonrpc":"2.0","id":1,"result":{"status":"unknown"}}
