>> {"id":1,"jsonrpc":"2.0","method":"eth_getBlockByNumber","params":["0x99",true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
