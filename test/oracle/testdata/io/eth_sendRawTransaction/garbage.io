>> {"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x1234"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"transaction type not supported: type 0x12"}}
