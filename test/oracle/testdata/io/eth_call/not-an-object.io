>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":["0x1","latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: json: cannot unmarshal string into Go value of type rpc.callArgs"}}
