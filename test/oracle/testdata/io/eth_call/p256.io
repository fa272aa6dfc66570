// there since Osaka
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"input":"0x","to":"0x0000000000000000000000000000000000000100"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
