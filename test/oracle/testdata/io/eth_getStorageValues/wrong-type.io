>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageValues","params":[{"0x9140629D4BbdF8D0e98d586AfE70E7017fB6950D":["0x0000000000000000000000000000000000000000000000000000000000000000"]},9]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 1: json: cannot unmarshal number into Go value of type string"}}
