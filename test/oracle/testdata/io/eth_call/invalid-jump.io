>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"input":"0x600956"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"invalid jump destination"}}
