>> {"id":1,"jsonrpc":"2.0","method":"eth_getBlockByHash","params":["0x0900000000000000000000000000000000000000000000000000000000000000",true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
