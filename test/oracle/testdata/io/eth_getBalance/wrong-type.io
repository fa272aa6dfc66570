>> {"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x9fbc26dded942b13318eda89513b51314a446b16",9]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 1: json: cannot unmarshal number into Go value of type string"}}
