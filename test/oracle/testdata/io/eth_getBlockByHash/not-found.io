// a block that is not there is null
>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockByHash","params":["0xdead000000000000000000000000000000000000000000000000000000000000",true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
