>> {"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x9fbc26dded942b13318eda89513b51314a446b16","earliest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0xd3c21bcecceda1000000"}
