>> {"id":1,"jsonrpc":"2.0","method":"eth_getBlockTransactionCountByNumber","params":["pending"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x1"}
