>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["",true]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: empty hex string"}}
