>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1",true,true]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"too many arguments, want at most 2"}}
