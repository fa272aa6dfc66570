>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf","value":"1"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: json: cannot unmarshal hex string without 0x prefix into Go struct field callArgs.value of type *hexutil.Big"}}
