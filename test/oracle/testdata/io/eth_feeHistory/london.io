// over the block that brings the base fee
>> {"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":["0x4","0xa",[]]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x7","baseFeePerGas":["0x0","0x0","0x3b9aca00","0x342a82a8","0x2dc53be4"],"gasUsedRatio":[0.0011240666666666667,0.017574066666666666,0.0008047666666666667,0.009595966666666667],"baseFeePerBlobGas":["0x0","0x0","0x0","0x0","0x0"],"blobGasUsedRatio":[0,0,0,0]}}
