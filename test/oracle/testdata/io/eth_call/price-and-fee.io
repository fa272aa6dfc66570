>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"gasPrice":"0x1","maxFeePerGas":"0x1","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"}}
