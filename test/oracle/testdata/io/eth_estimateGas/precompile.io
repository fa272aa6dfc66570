// identity
>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"input":"0x1234","to":"0x0000000000000000000000000000000000000004"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x52fe"}
