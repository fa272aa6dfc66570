// what is not there is null, or empty
>> {"jsonrpc":"2.0","id":1,"method":"eth_getRawTransactionByHash","params":["0xdead000000000000000000000000000000000000000000000000000000000000"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
