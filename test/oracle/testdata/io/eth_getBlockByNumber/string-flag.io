>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1","true"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 1: json: cannot unmarshal string into Go value of type bool"}}
